-- mp.progress: the values of the loop, lines where no terminal is, and bars in the rows of one.
local support = require "spec.support"
local terminal = require "spec.support.terminal"
local ok = support.ok

-- What the program writes to a terminal of 24 rows, a screen at a time.
local function on_terminal(code, options)
  local file = os.tmpname()
  support.write_file(file, 'local mp = require "mpengine" ' .. code)
  local command = ("stty rows %d cols 100; TERM=%s timeout 20 %s %s"):format(options and options.rows or 24,
    options and options.term or "xterm", support.command, file)
  local text = support.shell(("script -qec %s /dev/null < /dev/null"):format(support.quote(command)))
  os.remove(file)
  return text
end

-- The rows of the terminal after that text: enough of a terminal for what bars use.
local function screen(text)
  local rows, row, col, bottom, saved = {}, 1, 1, 24, { 1, 1 }
  for i = 1, 24 do rows[i] = "" end
  local function down()
    if row ~= bottom then row = math.min(24, row + 1) return end
    table.remove(rows, 1)
    table.insert(rows, bottom, "")
  end
  local function csi(n, what)
    if what == "r" then
      bottom, row, col = tonumber(n:match(";(%d+)")) or 24, 1, 1
    elseif what == "H" then
      row, col = tonumber(n:match("^%d+")), 1
    elseif what == "A" then
      row = math.max(1, row - tonumber(n))
    elseif what == "K" then
      rows[row] = rows[row]:sub(1, col - 1)
    end
  end
  local at = 1
  while at <= #text do
    local n, what, after = text:match("^\27%[([%d;]*)(%a)()", at)
    local c = text:sub(at, at)
    if n then
      csi(n, what)
      at = after
    elseif c == "\27" then
      local e = text:sub(at + 1, at + 1)
      if e == "7" then saved = { row, col } end
      if e == "8" then row, col = saved[1], saved[2] end
      if e == "D" then down() end
      at = at + 2
    else
      if c == "\n" then down() elseif c == "\r" then col = 1 else
        rows[row] = (rows[row] .. (" "):rep(col)):sub(1, col - 1) .. c .. rows[row]:sub(col + 1)
        col = col + 1
      end
      at = at + 1
    end
  end
  return rows, bottom
end

local function text_of(rows)
  local text = table.concat(rows, "\n"):gsub("[ \n]+$", "")
  return text
end

describe("mp.progress", function()
  it("gives the items of a list, also of a shared one, and the values of an iterator", function()
    ok[[
      local function items(...)
        local list = {}
        for a, b in mp.progress(...) do list[#list + 1] = { a, b } end
        return list
      end
      eq(items({ 1, false, "x" }), { { 1 }, { false }, { "x" } })
      eq(items({}), {})
      eq(items(mp.List { 5, 6 }, { label = "a list" }), { { 5 }, { 6 } })
      eq(items(mp.Array("i", { 7, 8 })), { { 7 }, { 8 } })
      eq(items(ipairs { "a", "b" }), { { 1, "a" }, { 2, "b" } })
      eq(items(pairs { k = 1 }), { { "k", 1 } })
      local t = { "a" }
      local f, s, v = ipairs(t)
      eq(items(f, s, v, { total = 1 }), { { 1, "a" } })
      eq(items(("a b"):gmatch("%a"), { total = 2, label = "letters" }), { { "a" }, { "b" } })]]
  end)

  it("asks for an item when the loop does, and closes the iterator when the loop is left", function()
    ok[[
      local log = {}
      local closing = setmetatable({}, { __close = function() log[#log + 1] = "closed" end })
      local function step(_, n) log[#log + 1] = "asked" return (n or 0) + 1 end
      for x in mp.progress(step, nil, nil, closing) do
        if x == 2 then break end
      end
      eq(log, { "asked", "asked", "closed" })
      eq(pcall(function() for _ in mp.progress(step, nil, nil, closing) do error "x" end end), false)
      eq(log[#log], "closed")]]
  end)

  it("writes lines every few seconds, and a last one, where no terminal is", function()
    local r = support.run[[
      local core = require "mpengine.core"
      local now, at = core.now, 0
      core.now = function() return at end
      for x in mp.progress({ 1, 2, 3, 4 }, { label = "items" }) do at = at + 3 end]]
    assert.equal("items 2/4  0/s  elapsed 0:06  left 0:06\nitems 4/4  0/s  elapsed 0:12  left 0:00\n", r.stderr)
  end)

  it("raises for what is no list and no option", function()
    ok[[
      raises({ "bad argument #1 to 'progress'", "got number" }, mp.progress, 5)
      raises({ "bad argument #1 to 'progress'", "got no value" }, mp.progress)
      raises({ "bad argument #2 to 'progress'", "got string" }, mp.progress, {}, "label")
      raises("progress: field 'total' must be an integer, 0 or more, got -1", mp.progress, {}, { total = -1 })
      raises("progress: field 'label' must be a string", mp.progress, {}, { label = 5 })
      raises("progress: unknown field 'totl'", mp.progress, {}, { totl = 5 })]]
  end)
end)

describe("the bar of mp.progress on a terminal", function()
  it("goes on beyond a total that is too small, is empty without one, and has its label in one row", function()
    for _, environment in ipairs { "", "TERM=dumb " } do
      local dir = support.shell("mktemp -d"):match "%S+"
      support.write_file(dir .. "/loop.lua", [[
        local mp = require "mpengine"
        local function to(n) return function(_, i) mp.sleep(0.06) return (i or 0) < n and (i or 0) + 1 or nil end end
        for _ in mp.progress(to(12), { total = 3, label = "small\n\27[31m" }) do end
        for i in mp.progress(to(9), { label = ("\u{65e5}"):rep(9) }) do
          if i == 9 then io.read "l" end
        end]])
      terminal.run(("env %sLC_ALL=C.UTF-8 %s %s/loop.lua"):format(environment, support.quote(support.command), dir),
        function(t)
          t.screen("small\\n\\x1b[31m [####", "] 12/3  ")
          t.screen(("\u{65e5}"):rep(9) .. " [....", ".] ", "/?  ")
          t.press "Enter"
          t.screen(("\u{65e5}"):rep(9) .. " [####", "#] 9/9  ", "status 0")
        end)
      support.shell("rm -rf " .. dir)
    end
  end)

  it("is below what the loop prints, and becomes a line at the end", function()
    local text = on_terminal[[
      for i in mp.progress({ 1, 2, 3 }, { label = "things" }) do print("item " .. i) end
      print "after"]]
    local rows, bottom = screen(text)
    assert.equal(24, bottom)
    assert.truthy(text_of(rows):find("^item 1\nitem 2\nitem 3\nthings %[#+%] 3/3  %d+/s [^\n]*\nafter$"), text_of(rows))
  end)

  it("stays in the last row while more is printed than the screen has rows", function()
    local text = on_terminal[[
      for i = 1, 30 do print("before " .. i) end
      for i in mp.progress({ 1, 2 }, { label = "things" }) do
        for k = 1, 40 do print(i .. " line " .. k) end
        mp.sleep(0.15)
        if i == 2 then print("now") end
      end]]
    local rows, bottom = screen(text:match("^(.*now\r\n)"))
    assert.equal(23, bottom)
    assert.equal("now", rows[22])
    assert.truthy(rows[24]:find("^things %[#+%.*%] 1/2"), text_of(rows))
    rows, bottom = screen(text)
    assert.equal(24, bottom)
    assert.truthy(text_of(rows):find("now\nthings %[#+%] 2/2[^\n]*$"), text_of(rows))
  end)

  it("has a row for each of several processes", function()
    local text = on_terminal[[
      local all, go = mp.Barrier(4), mp.Event()
      local list = {}
      for i = 1, 3 do
        list[i] = mp.Process(function()
          for x in mp.progress({ 1, 2 }, { label = "process " .. i }) do
            if x == 1 then all:wait() go:wait() end
          end
        end)
        list[i]:start()
      end
      all:wait()
      print "all there"
      go:set()
      for _, p in ipairs(list) do p:join() end
      print "end"]]
    local rows, bottom = screen(text:match("^(.*all there\r\n)"))
    assert.equal(21, bottom)
    local seen = {}
    for i = 22, 24 do seen[#seen + 1] = rows[i]:match("^process %d %[") end
    table.sort(seen)
    assert.same({ "process 1 [", "process 2 [", "process 3 [" }, seen)
    rows, bottom = screen(text)
    assert.equal(24, bottom)
    local whole = text_of(rows)
    for i = 1, 3 do assert.truthy(whole:find(("process %d %%[#+%%] 2/2"):format(i)), whole) end
    assert.truthy(whole:find("\nend$"), whole)
  end)

  it("is one for each map of a pool, below what its workers print", function()
    for _, pool in ipairs { "mp.Pool(2)", "mp.co.Pool(2)" } do
      local text = on_terminal(([[
        local pool, go, here = %s, mp.Event(), mp.Semaphore(0)
        local function work(x)
          print("item " .. x)
          if x == 2 then here:release() go:wait() end
        end
        local opts = { progress = true, chunksize = 1 }
        local first, second = pool:map_async(work, { 1, 2, 3 }, opts), pool:map_async(work, { 1, 2, 3, 4 }, opts)
        here:acquire() here:acquire()
        mp.sleep(0.15)
        print "both there"
        go:set()
        first:get() second:get()
        print "end"]]):format(pool))
      local rows, bottom = screen(text:match("^(.*both there\r\n)"))
      assert.equal(22, bottom)
      assert.truthy(rows[24]:find("^%[[#.]+%] %d/3 "), text_of(rows))
      assert.truthy(rows[23]:find("^%[[#.]+%] %d/4 "), text_of(rows))
      rows, bottom = screen(text)
      local whole = text_of(rows)
      assert.equal(24, bottom)
      for _, line in ipairs { "\n%[#+%] 3/3 ", "\n%[#+%] 4/4 ", "\nend$" } do assert.truthy(whole:find(line), whole) end
      assert.equal(7, select(2, whole:gsub("item %d\n", "")))
    end
  end)

  it("shows a loop over imap, whose options say how many items there are", function()
    local text = on_terminal[[
      local pool <close> = mp.Pool(2)
      local sum = 0
      for _, x in mp.progress(pool:imap(math.abs, { -1, -2, -3 }), { total = 3, label = "items" }) do
        print("got " .. x)
        sum = sum + x
      end
      print("sum " .. sum)]]
    local whole = text_of((screen(text)))
    assert.truthy(whole:find("^got 1\ngot 2\ngot 3\nitems %[#+%] 3/3 [^\n]*\nsum 6$"), whole)
  end)

  it("gives its row back when the loop is left, by an error, and by os.exit", function()
    for _, leave in ipairs { "break", "error 'x'", "os.exit(3)" } do
      local text = on_terminal(("for i in mp.progress({ 1, 2 }) do print(i) if i == 2 then %s end end"):format(leave))
      local _, bottom = screen(text)
      assert.truthy(text:find("\27[1;23r", 1, true), text)
      assert.equal(24, bottom, leave)
    end
  end)

  it("takes the row of a process that was killed, and lets it scroll again", function()
    local text = on_terminal[[
      local there = mp.Event()
      local p = mp.Process(function()
        for _ in mp.progress({ 1 }, { label = "dead" }) do there:set() mp.sleep(60) end
      end)
      p:start()
      there:wait()
      p:kill() p:join()
      for _ in mp.progress({ 1 }, { label = "alive" }) do print "in the loop" end]]
    local rows, bottom = screen(text:match("^(.*in the loop\r\n)"))
    assert.equal(23, bottom)
    assert.truthy(rows[24]:find("^alive"), text_of(rows))
    rows, bottom = screen(text)
    assert.equal(24, bottom)
    assert.falsy(text_of(rows):find("dead", 1, true))
  end)

  it("is in the current line of a terminal that cannot do more", function()
    for _, options in ipairs { { term = "dumb" }, { rows = 4 } } do
      local text = on_terminal("for i in mp.progress({ 1, 2 }) do end", options)
      assert.truthy(text:find("^\r%[#+%] 2/2[^\n]*\n$"), text)
    end
  end)
end)
