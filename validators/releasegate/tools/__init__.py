"""The programs that judge: argv in, values out. `store` says where they come from."""
