"""The service's data at its edges: jobs as users submit them, and resources as the API returns them."""
