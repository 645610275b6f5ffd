local support = require "spec.support"

-- Programs that are started with standard descriptors closed. They report by their exit status, as
-- there may be no output.
local SETS = { { 0 }, { 1 }, { 2 }, { 0, 1 }, { 0, 1, 2 } }

-- own(): none of the numbers 0 to 2 is a descriptor that something of the library has made. A new descriptor has
-- the lowest number for a moment, before it is moved: the list is made once those of the program are there.
local OWN = [[
local function own()
  local pid = mp.current_process().pid
  local command = "read -r go; ls -l /proc/" .. pid .. "/fd"
  local list = assert(mp.subprocess.run { "sh", "-c", command, stdin = "go\n" }).stdout
  assert(list:find "memfd", list)
  for fd, file in list:gmatch "(%d+) %-> ([^\n]+)" do
    if tonumber(fd) <= 2 and (file:find("memfd", 1, true) or file:find("^socket:") or file:find("^anon_inode:")
        or file:find("^pipe:")) then
      error(fd .. " is " .. file)
    end
  end
end
]]

local function each(code, opts)
  for _, mode in ipairs { "command", "stock" } do
    for _, set in ipairs(SETS) do
      local o = { mode = mode, closed = set }
      for k, v in pairs(opts or {}) do o[k] = v end
      local r = support.run(OWN .. code, o)
      assert.equal(0, r.status, ("%s without %s: %s%s"):format(mode, table.concat(set, " "), r.stdout, r.stderr))
    end
  end
end

describe("standard descriptors that are closed", function()
  it("are not taken by shared objects, nor written over by print", function()
    each [[
      local q, d = mp.Queue(), mp.Dict()
      for i = 1, 2000 do q:put(i) d[i] = "value " .. i print("line", i) io.write("more ", i, "\n") end
      for i = 1, 2000 do eq(q:get(), i) eq(d[i], "value " .. i) end
      own()
      eq(io.read "a" or "", "")]]
  end)

  it("are not taken by waits, timers, pipes and programs", function()
    each [[
      local co = mp.co
      local t = co.spawn(function() mp.sleep(0.01) return "timer" end)
      eq(t:get(), "timer")
      eq(mp.subprocess.run({ "cat", stdin = "through a pipe" }).stdout, "through a pipe")
      eq(co.offload(function() return 5 end), 5)
      local all = { co.spawn(mp.subprocess.run, { "sleep", "0.1" }), co.spawn(mp.sleep, 0.05) }
      co.spawn(own):get()
      co.joinall(all)
      own()]]
  end)

  it("are not taken by descriptors that http opens", function()
    each [[
      local ok, why = mp.http.get("http://127.0.0.1:1/")
      eq(ok, nil)
      own()]]
  end)

  for _, method in ipairs { "fork", "spawn", "forkserver" } do
    it("are not taken in children by " .. method .. ", nor by what starts them", function()
      each(([[
        mp.set_start_method "%s"
        local q = mp.Queue()
        local p = P(function(inner, check)
          for i = 1, 500 do inner:put(i) print("line", i) io.stderr:write "" end
          mp.subprocess.run { "true" }
          mp.co.spawn(mp.sleep, 0.01):join()
          load(check)()
          inner:put "end"
        end, q, "local mp = require 'mpengine' " .. %q .. " own()")
        for i = 1, 500 do eq(q:get(10), i) end
        eq(q:get(10), "end")
        all { p }
        local daemon = mp.Process { target = function() q:put(mp.sleep(0) or "daemon") mp.sleep(20) end, daemon = true }
        daemon:start()
        eq(q:get(10), "daemon")
        own()
        local pool <close> = mp.Pool(2)
        eq(pool:map(function(x) print(x) return x * x end, { 1, 2, 3 }), { 1, 4, 9 })
        own()]]):format(method, OWN))
    end)
  end

  it("are still closed in stock Lua when the library is loaded", function()
    local r = support.run([[
      local q = mp.Queue() q:put(1) eq(q:get(), 1)
      mp.co.spawn(mp.sleep, 0.01):join()
      local file = io.open "/dev/null"
      local list = mp.subprocess.run({ "ls", "-l", "/proc/" .. mp.current_process().pid .. "/fd" }).stdout
      assert(list:find " 0 %-> /dev/null", list)]], { mode = "stock", closed = { 0 } })
    assert.equal(0, r.status, r.stderr)
  end)

  it("are /dev/null under the command", function()
    local r = support.run([[
      local list = mp.subprocess.run({ "ls", "-l", "/proc/" .. mp.current_process().pid .. "/fd" }).stdout
      for fd = 0, 2 do assert(list:find(" " .. fd .. " %-> /dev/null"), list) end
      eq(io.read "l", nil)]], { mode = "command", closed = { 0, 1, 2 } })
    assert.equal(0, r.status)
  end)

  it("closed by the script are not taken later", function()
    support.ok(OWN .. [[
      io.stdin:close()
      io.stdout:close()
      local q = mp.Queue()
      mp.co.spawn(mp.sleep, 0.01):join()
      P(function() q:put(1) end)
      eq(q:get(10), 1)
      mp.http.get("http://127.0.0.1:1/")
      own()]])
  end)
end)
