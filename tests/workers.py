"""The processes that all tests share which render row by row: started at the first need, ended with the tests."""

from taskmix.templates.rowwise import Workers

WORKERS = Workers(2)
