"""The paths of the service: one module, with a `router`, for each kind of thing. `create_app` lists them.

A handler takes `access: Annotated[Access, Depends(needs("read"))]`, opens its collection with `access.open(name)`, and
does what blocks inside `run_blocking`. It catches no error of this package: the application answers for all of them.
"""
