"""The papers that are reproduced, each in a folder of its own."""
