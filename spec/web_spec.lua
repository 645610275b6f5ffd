-- scripts/web.lua, with clients that are not ours: curl, python3-websockets and a browser.
local support = require "spec.support"

local function run(command)
  local f = assert(io.popen(command .. " 2>/dev/null"))
  local text = f:read "a"
  f:close()
  return text
end

-- Runs the script on a free port while f(port) asks it, then ends it with SIGTERM.
local function with_server(f)
  local free = require("socket").bind("127.0.0.1", 0)
  local port = select(2, free:getsockname())
  free:close()
  local log = os.tmpname()
  local pid = run(("%s %s/scripts/web.lua %d >%s 2>&1 & echo $!"):format(support.command, support.root, port, log))
  local url = "http://127.0.0.1:" .. port
  local ok, why = pcall(function()
    run(("curl -s --retry 50 --retry-delay 0 --retry-connrefused --retry-max-time 20 %s/"):format(url))
    f(url, port)
  end)
  run("kill -TERM " .. pid)
  run((support.limit .. " tail --pid=%s -f /dev/null"):format(pid))
  local said = support.read_file(log)
  os.remove(log)
  assert(ok, why)
  return said
end

describe("scripts/web.lua", function()
  it("answers curl in JSON, from one dict in all workers", function()
    local said = with_server(function(url)
      assert.equal('{"count":7,"name":"pears"}', run("curl -s -X PUT -d 7 " .. url .. "/api/pears"))
      for n = 8, 20 do
        assert.equal(('{"count":%d,"name":"pears"}'):format(n), run("curl -s -X POST " .. url .. "/api/pears"))
      end
      assert.equal("500", run("curl -s -o /dev/null -w '%{http_code}' -X PUT -d x " .. url .. "/api/pears"))
      assert.truthy(run("curl -s --http1.0 " .. url .. "/"):find("<!doctype html>", 1, true))
    end)
    assert.truthy(said:find("a number is expected", 1, true), said)
  end)

  it("tells changes by its WebSocket", function()
    local said = with_server(function(_, port)
      local code = ([[
import asyncio, websockets, urllib.request
B = '127.0.0.1:%d'
def post():
    urllib.request.urlopen(urllib.request.Request('http://' + B + '/api/clicks', method='POST')).read()
async def main():
    async with websockets.connect('ws://' + B + '/ws') as a, websockets.connect('ws://' + B + '/ws') as b:
        print(await a.recv(), await b.recv())
        await asyncio.get_running_loop().run_in_executor(None, post)
        print(await a.recv(), await b.recv())
asyncio.run(main())
]]):format(port)
      assert.equal('{} {}\n{"clicks":1} {"clicks":1}\n',
        run(support.limit .. " /usr/bin/python3 -c " .. support.quote(code)))
    end)
    assert.equal("", said)
  end)

  it("has a page that a browser shows, with what the WebSocket told", function()
    if run "command -v chromium" == "" then return pending "there is no browser (Debian package chromium)" end
    local profile = run("mktemp -d"):gsub("\n", "")
    finally(function() os.execute("rm -rf " .. profile) end)
    local said = with_server(function(url)
      run("curl -s -X PUT -d 41 " .. url .. "/api/pears")
      run("curl -s -X POST " .. url .. "/api/pears")
      local dom -- the browser writes it after a time of its own, in which the message may not have come
      local is_shown = support.eventually(function()
        dom = run((support.limit .. " chromium --headless --no-sandbox --disable-gpu --user-data-dir=%s "
          .. "--virtual-time-budget=5000 --dump-dom %s/"):format(profile, url))
        return dom:find('<pre id="all">{"pears":42}</pre>', 1, true)
      end)
      assert.truthy(is_shown, dom)
    end)
    assert.equal("", said)
  end)
end)
