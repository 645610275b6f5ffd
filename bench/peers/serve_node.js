// The server of rows/serve.lua: node's http.
const server = require("http").createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 5 });
  response.end("hello");
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
