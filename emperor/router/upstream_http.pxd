# upstream_http.py is compiled as it is: its classes are ordinary ones.
