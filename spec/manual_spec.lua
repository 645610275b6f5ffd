-- The programs of the manual print what its pages say; tools/manual.lua describes how they are marked.
local support = require "spec.support"
local manual = dofile "tools/manual.lua"

for _, path in ipairs(manual.pages()) do
  describe(path, function()
    local session
    setup(function() session = manual.open() end)
    teardown(function() session:close() end)
    for _, program in ipairs(manual.programs(path)) do
      it(("line %d: %s"):format(program.line, program.action), function()
        local ok, problem = session:run(program)
        support.skip_without_library(problem or "")
        assert(ok, problem)
      end)
    end
  end)
end

describe("the comparison", function()
  it("tells a wrong output from a right one", function()
    assert.is_true(manual.same("a 1\nb\n", "a …\nb\n"))
    assert.is_true(manual.same("x\ny\nend\n", "…\nend\n"))
    assert.is_true(manual.same("end\n", "…\nend\n"))
    assert.is_true(manual.same("2\n1\n", "1\n2\n", true))
    assert.is_false(manual.same("2\n1\n", "1\n2\n"))
    assert.is_false(manual.same("a\nb\n", "a\n"))
    assert.is_false(manual.same("a\n", "a\nb\n"))
    assert.is_false(manual.same("a.b\n", "a…c\n"))
    assert.is_false(manual.same("axb\n", "a.b\n"))
  end)

  it("finds the programs that are marked, and their output only", function()
    local path = os.tmpname()
    local f = assert(io.open(path, "w"))
    f:write("```lua\nprint(0)\n```\n```text\n0\n```\n```lua run file=a.lua\nprint(1)\n```\n\n```text sorted\n1\n```\n",
      "```sh run\ntrue\n```\nwords\n```text\nno output\n```\n```lua file=b.lua\nb = 1\n```\n")
    f:close()
    local programs = manual.programs(path)
    os.remove(path)
    assert.same({
      { line = 7, language = "lua", action = "run", file = "a.lua", text = "print(1)\n",
        output = "1\n", sorted = true },
      { line = 14, language = "sh", action = "run", text = "true\n" },
      { line = 21, language = "lua", action = "save", file = "b.lua", text = "b = 1\n" },
    }, programs)
  end)
end)

it("the table of contents has each page once", function()
  local f = assert(io.open "docs/README.md")
  local contents = f:read "a"
  f:close()
  local pages = assert(io.popen "cd docs && ls *.md")
  for page in pages:lines() do
    local _, count = contents:gsub("%- %[" .. page:gsub("%p", "%%%0") .. "%]%(" .. page:gsub("%p", "%%%0"), "")
    if page ~= "README.md" then assert.equal(1, count, page) end
  end
  pages:close()
end)

describe("the book", function()
  local book = dofile "tools/book.lua"

  it("has each annotated function in its index", function()
    local index, count = book.index(), 0
    for _, f in ipairs(book.functions()) do
      count = count + 1
      assert.truthy(index:find(('<a id="%s.%s"></a>'):format(f.class, f.name), 1, true), f.signature)
    end
    local annotated = 0
    for line in io.lines "bindings/library/mpengine.lua" do
      local is_method = line:find "^%-%-%-@field [%w_]+ fun%(self"
      if is_method or line:find "^function " then annotated = annotated + 1 end
    end
    assert.equal(annotated, count)
  end)

  it("has each page as a chapter, with a name of its own", function()
    local names, paths = {}, {}
    for _, chapter in ipairs(book.chapters()) do
      assert.is_nil(names[chapter.html], chapter.html)
      names[chapter.html], paths[chapter.path or ""] = true, true
    end
    local pages = assert(io.popen "ls docs/*.md")
    for page in pages:lines() do assert.is_true(paths[page], page) end
    pages:close()
  end)
end)
