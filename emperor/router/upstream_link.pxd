# upstream_link.py is compiled as it is: its classes are ordinary ones.
