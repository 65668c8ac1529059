"""Reads a YAML file into a frozen Pydantic model, or says all that is wrong with it: file:line:column, and the mend."""
