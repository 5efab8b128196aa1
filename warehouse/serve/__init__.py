"""The warehouse's doors for tools and applications: HTTP, guarded SQL; the only room of web frameworks."""
