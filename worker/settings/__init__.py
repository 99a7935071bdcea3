"""All settings, their sources, and the sentence that refuses one."""
