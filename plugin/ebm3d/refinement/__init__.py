"""Refinement of any detector's boxes by an energy on points alone: no map, no config, no host."""
