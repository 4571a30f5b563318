$TTL 1h
@       SOA   ns.ams hostmaster 1 3h 1h 2w 30s
        NS    ns.ams
        NS    ns.nyc
        NS    ns.sgp
ns.ams  A     127.0.1.1
ns.nyc  A     127.0.1.2
ns.sgp  A     127.0.1.3
www     CNAME start
start   TXT   "Static records come from this file; *.photos is steered."
photos  TXT   "Each customer has a name below this one."
