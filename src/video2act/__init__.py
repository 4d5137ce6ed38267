"""Video2Act: a slow system that reads video through a diffusion model, a fast one that acts (arXiv 2512.03044)."""
