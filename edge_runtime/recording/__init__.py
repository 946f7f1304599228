"""Normal footage from a camera, for training: clips without gaps, and a look at whether they are worth training on."""
