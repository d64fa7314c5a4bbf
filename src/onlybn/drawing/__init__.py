"""From collected tables to figures, tables and the report; knows no paper."""
