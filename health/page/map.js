// Sites by their coordinates over rough coasts: enough to know the place again, and nothing is fetched for it.
// Law: the map repeats what the table says; a sign and a word stand beside every colour.

import { shape } from "./element.js";

// Longitude and latitude in whole degrees, drawn by hand.
const LAND = [
  // North America, down to Panama
  "-168 66,-162 70,-156 71,-141 70,-128 70,-115 68,-108 68,-95 72,-94 68,-86 69,-81 69,-82 66,-87 64,-94 60,-93 58,-85 55,-82 55,-80 51,-79 54,-77 57,-78 62,-73 62,-69 60,-65 60,-61 56,-56 53,-60 50,-66 50,-64 46,-60 46,-66 43,-70 43,-70 41,-74 40,-76 37,-76 35,-81 31,-80 26,-82 28,-84 30,-90 29,-97 28,-98 22,-95 18,-91 19,-90 21,-87 21,-88 16,-83 15,-83 11,-80 9,-78 9,-80 7,-85 10,-88 13,-94 16,-101 17,-106 21,-109 26,-114 31,-112 28,-110 23,-115 29,-117 33,-121 35,-124 40,-124 48,-130 54,-135 58,-146 61,-152 59,-158 56,-165 54,-158 59,-165 61,-166 64",
  // Greenland
  "-73 78,-60 82,-33 83,-18 80,-20 74,-26 70,-40 65,-44 60,-50 62,-54 67,-54 71,-60 76",
  // South America
  "-78 9,-72 12,-62 11,-52 5,-50 0,-44 -3,-37 -5,-35 -8,-39 -14,-41 -22,-48 -26,-53 -34,-57 -36,-58 -38,-62 -39,-65 -43,-66 -47,-69 -51,-68 -55,-74 -52,-75 -46,-73 -38,-71 -30,-70 -19,-76 -14,-81 -6,-80 -1,-77 4",
  // Europe and Asia
  "-9 43,-9 37,-6 36,-2 37,0 40,3 42,7 43,11 42,16 38,16 40,13 45,19 42,22 37,24 38,23 41,29 41,27 37,31 36,36 36,34 31,39 21,43 13,52 16,59 22,56 26,51 25,48 30,57 26,66 25,70 22,73 16,77 8,80 13,80 15,87 21,91 22,94 16,98 17,98 10,103 1,104 2,100 8,100 13,105 9,109 12,106 18,108 21,114 22,120 26,122 31,119 36,121 40,125 39,126 35,129 36,128 40,135 44,140 48,141 53,137 54,143 59,155 59,156 52,162 56,164 60,171 60,179 63,179 68,160 70,140 73,125 73,112 76,104 78,86 74,70 72,67 68,55 68,44 67,41 66,34 67,41 68,28 71,18 69,12 64,5 61,6 58,10 59,12 56,17 57,17 61,22 66,25 65,21 61,30 60,23 59,21 56,14 54,10 54,8 57,8 54,4 52,-2 49,-4 48,-1 46,-2 43",
  // Britain, Ireland, Iceland
  "-5 50,1 51,2 53,-2 56,-3 59,-6 58,-3 54,-5 52", "-10 52,-6 52,-6 55,-9 54", "-24 65,-14 65,-16 66,-22 66",
  // Africa, Madagascar
  "-6 36,10 37,11 34,20 32,20 31,32 31,34 28,37 21,43 12,51 12,47 4,41 -2,39 -7,41 -15,35 -20,33 -26,28 -33,20 -35,18 -33,12 -18,14 -11,9 -1,9 4,4 6,-8 4,-13 9,-17 14,-17 21,-10 29",
  "44 -25,47 -25,50 -16,49 -12,44 -17",
  // Japan, Taiwan, Philippines, Sri Lanka
  "130 31,132 34,140 36,142 40,145 44,142 46,140 42,139 38,133 36,130 34", "120 22,122 25,121 25", "120 18,122 18,126 8,122 7,124 11", "80 6,82 7,80 10",
  // Sumatra, Java, Borneo, Sulawesi, New Guinea
  "95 6,106 -6,102 -4", "105 -6,114 -8,115 -9,106 -8", "109 2,117 7,119 5,116 -4,110 -3", "119 -5,120 1,125 1,121 -1,123 -5",
  "131 -1,141 -3,151 -10,147 -10,143 -8,138 -8,133 -4",
  // Australia, Tasmania, New Zealand
  "114 -22,122 -18,129 -15,131 -11,137 -12,136 -15,140 -18,142 -11,146 -19,153 -25,153 -31,150 -37,144 -39,139 -36,135 -34,131 -31,124 -33,118 -35,115 -34", "145 -41,148 -41,147 -43",
  "173 -35,178 -38,175 -41,174 -38", "173 -41,174 -42,168 -46,167 -45",
];

const SIGNS = { up: "▲", down: "▼", unknown: "?" };

// The part of the world to show: all sites with room around them, at least a third of the way round, twice as wide as high.
function frame(places) {
  const longitudes = places.map(([, longitude]) => longitude), latitudes = places.map(([latitude]) => latitude);
  const west = Math.min(...longitudes), east = Math.max(...longitudes);
  const south = Math.min(...latitudes), north = Math.max(...latitudes);
  const width = Math.min(360, Math.max(120, (east - west) * 1.3 + 30, ((north - south) * 1.3 + 24) * 2));
  const height = width / 2;
  const left = Math.max(-180, Math.min(180 - width, (west + east - width) / 2));
  const top = Math.max(-90, Math.min(90 - height, -(north + south) / 2 - height / 2));
  return { left, top, width, height };
}

export function drawMap(sites) {
  const placed = sites.filter((site) => site.coordinates !== null);
  if (placed.length === 0) return null;
  const { left, top, width, height } = frame(placed.map((site) => site.coordinates));
  const unit = width / 100;
  const words = placed.map((site) => `${site.name} ${site.health}`).join(", ");
  const svg = shape("svg", { viewBox: `${left} ${top} ${width} ${height}`, role: "img", "aria-label": `Sites: ${words}` });
  for (const outline of LAND) {
    const points = outline.split(",").map((pair) => pair.split(" ").map(Number)).map(([x, y]) => `${x},${-y}`).join(" ");
    svg.append(shape("polygon", { class: "land", points }));
  }
  for (let x = -150; x < 180; x += 30) svg.append(shape("line", { class: "grid", x1: x, x2: x, y1: -90, y2: 90 }));
  for (let y = -60; y < 90; y += 30) svg.append(shape("line", { class: "grid", x1: -180, x2: 180, y1: y, y2: y }));
  const taken = [];
  for (const site of placed) {
    const [latitude, x] = site.coordinates, y = -latitude;
    svg.append(shape("circle", { class: site.health, cx: x, cy: y, r: unit * 1.3, "stroke-width": unit * 0.4 }));
    const label = shape("text", { "font-size": unit * 3.6, "stroke-width": unit * 0.7 });
    label.textContent = `${SIGNS[site.health] ?? "?"} ${site.name}${site.drained.includes("*") ? " drained" : ""}`;
    const wide = label.textContent.length * unit * 2.2, atRight = x + wide + unit * 3 < left + width;
    let line = y + unit * 1.2;
    while (taken.some((other) => Math.abs(other.line - line) < unit * 4 && Math.abs(other.x - x) < wide)) line += unit * 4;
    taken.push({ x, line });
    label.setAttribute("x", String(atRight ? x + unit * 2.2 : x - unit * 2.2));
    label.setAttribute("y", String(line));
    label.setAttribute("text-anchor", atRight ? "start" : "end");
    svg.append(label);
  }
  return svg;
}
