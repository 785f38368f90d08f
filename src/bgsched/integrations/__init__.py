"""What joins bgsched to other programs. Each module needs what it names, and nothing here is imported by bgsched."""
