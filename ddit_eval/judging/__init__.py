"""What the results say: pure judgement over what the stages wrote."""
