"""From clean pictures or clips and prompts to a transformer's own inputs."""
