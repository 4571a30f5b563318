"""Unmodified software: an upload page, and a wiki in flat files, edited in place under lock folders of its own."""

UPLOAD_PAGE = """<?php
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    @mkdir(__DIR__ . '/photos');
    $name = basename($_FILES['photo']['name']);
    if (!move_uploaded_file($_FILES['photo']['tmp_name'], __DIR__ . '/photos/' . $name)) {
        http_response_code(500);
        exit('could not keep it');
    }
    echo 'thank you';
}
"""
WIKI_PAGE = """<?php
$name = basename($_REQUEST['page'] ?? 'start');
$file = __DIR__ . "/pages/$name.txt";
header('Content-Type: text/plain');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    @mkdir(__DIR__ . '/pages');
    for ($tries = 0; !@mkdir("$file.lock"); $tries++) {
        if ($tries > 300) {
            http_response_code(409);
            exit('somebody else edits it');
        }
        usleep(10000);
    }
    $page = fopen($file, 'c+');
    $lines = array_slice(explode("\\n", stream_get_contents($page)), 1, -2);
    $lines[] = $_POST['line'];
    rewind($page);
    ftruncate($page, 0);
    fwrite($page, "page $name, " . count($lines) . " edits\\n");
    foreach ($lines as $line) {
        fwrite($page, "$line\\n");
    }
    fwrite($page, "end\\n");
    fclose($page);
    rmdir("$file.lock");
    echo 'saved';
} elseif (is_file($file)) {
    readfile($file);
} else {
    http_response_code(404);
}
"""
