"""The browser in which the page is tested."""
