"""From a graph to a placed program; the order of the passes and its reasons stand in driver.py."""
