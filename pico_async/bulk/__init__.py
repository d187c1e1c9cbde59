"""Many messages: as fast as the pace allows, with a result for each."""
