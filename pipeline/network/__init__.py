"""The recurrent network: its cells, one timestep for many streams, and back-propagation through a window."""
