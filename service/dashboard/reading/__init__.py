"""From stored records to what the pages show: pure functions, no HTTP."""
