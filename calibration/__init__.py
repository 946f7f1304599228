"""What has to be measured on normal footage before a bundle can raise an alarm. No PyTorch here."""
