"""What does one category's direction do to another's prompts? Its figures."""
