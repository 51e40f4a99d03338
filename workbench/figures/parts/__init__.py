"""What figures share: theme, bands, error bars, heat maps, panels, embedding."""
