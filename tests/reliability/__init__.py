"""A campaign of damaged and hostile files against everything that reads one."""
