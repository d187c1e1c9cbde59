"""HTTP: one exchange of a request for a reply, over httpx or aiohttp."""
