"""The compiler: a template becomes steps on a frame of rows, which give what Jinja gives row by row."""
