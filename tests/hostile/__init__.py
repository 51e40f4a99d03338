"""What tests need to change files behind the workbench's back."""
