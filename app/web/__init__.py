"""HTTP, independent of what is served: middleware, problems, routing, OpenAPI."""
