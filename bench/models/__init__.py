"""Where models come from: the wheel, the hub, a folder; and the bridge around them."""
