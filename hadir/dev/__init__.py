"""What runs the whole system on an empty machine; the server never imports it."""
