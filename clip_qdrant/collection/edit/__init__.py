"""Changes to what is stored of images, without the images: their metadata, and labels that the model gives."""
