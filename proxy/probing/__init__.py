"""The health process as the master sees it: what it is given and what it reports. Imports config and processes."""
