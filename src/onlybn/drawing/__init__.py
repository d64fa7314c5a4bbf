"""From collected tables to figures, tables and the report; independent of any paper."""
