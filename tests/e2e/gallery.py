"""A gallery whose author never thought of a second site: the software that nobody profiled of docs/profiles.md."""

UPLOAD = """<?php
$name = basename($_FILES['photo']['name']);
@mkdir('photos');
move_uploaded_file($_FILES['photo']['tmp_name'], "photos/$name");
file_put_contents('list.txt', "$name\\n", FILE_APPEND | LOCK_EX);
echo 'stored';
fastcgi_finish_request();
usleep(400000);
copy("photos/$name", "photos/small-$name");
"""
DELETE = """<?php
$name = basename($_GET['name']);
unlink("photos/$name");
unlink("photos/small-$name");
file_put_contents('list.txt', str_replace("$name\\n", '', file_get_contents('list.txt')));
echo 'deleted';
"""
FRONT = """<?php
@mkdir('sessions');
session_save_path(__DIR__ . '/sessions');
session_start();
$_SESSION['views'] = ($_SESSION['views'] ?? 0) + 1;
@mkdir('cache');
file_put_contents('cache/front.html', '<pre>' . htmlspecialchars(file_get_contents('list.txt')));
readfile('cache/front.html');
"""
FILES = {"upload.php": UPLOAD, "delete.php": DELETE, "index.php": FRONT, "list.txt": ""}
