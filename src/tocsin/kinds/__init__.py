"""What a sample is: raw array -> tensor on the device, augmentation, one file a kind."""
