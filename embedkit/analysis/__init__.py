"""What a store says of its images: classes, selections, outliers, maps."""
