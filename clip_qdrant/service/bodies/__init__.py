"""Bodies of the requests and responses of the search API, as the OpenAPI document describes them."""
