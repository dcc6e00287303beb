"""A greeting, and a page for health checks."""

from flask import Flask, jsonify, request
from markupsafe import escape

app = Flask(__name__)


@app.get("/")
def greet():
    return f"Hello, {escape(request.args.get('name', 'world'))}\n"


@app.get("/health")
def health():
    return jsonify(status="ok")
