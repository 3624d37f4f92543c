"""Who may do what: keys, their scopes, collections and tenants."""
