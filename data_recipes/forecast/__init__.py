"""What a build will need, told before anything is read: bytes, hours and disk, measured or from stated assumptions."""
