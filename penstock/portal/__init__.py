"""The portal: the pages of the web front, rendered on the server, for people with a browser."""
