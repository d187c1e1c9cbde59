"""HTTP: one exchange of a request for a reply, and the libraries that carry it."""
