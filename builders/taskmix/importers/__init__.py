"""Importers: other projects' task and template files become a catalog and template files of taskmix's own."""
