"""What other code wrote, read into ours: checkpoints of the released Video2Act code, and RDT-1B."""
