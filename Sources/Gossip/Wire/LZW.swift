/// The LZW of GIF, least significant bit first with 8-bit literals: memberlist's compression (WIRE.md section 3).
///
/// Everybody reads it and nobody must write it.
enum LZW {
    private static let clear = 256
    private static let end = 257
    private static let widthMax = 12

    /// Writes what the reference implementation writes, bit by bit.
    static func compress(_ input: [UInt8]) -> [UInt8] {
        var bits = BitWriter()
        // A code and the byte after it → the code of both.
        var codes: [Int: Int] = [:]
        var width = 9
        var highest = Self.end

        bits.write(Self.clear, width)
        if var code = input.first.map(Int.init) {
            for byte in input.dropFirst() {
                let key = code << 8 | Int(byte)
                if let longer = codes[key] {
                    code = longer
                    continue
                }
                bits.write(code, width)
                code = Int(byte)
                if Self.isLast(&highest, &width) {
                    bits.write(Self.clear, width)
                    codes.removeAll(keepingCapacity: true)
                    (width, highest) = (9, Self.end)
                } else {
                    codes[key] = highest
                }
            }
            bits.write(code, width)
            if Self.isLast(&highest, &width) {
                bits.write(Self.clear, width)
                width = 9
            }
        }
        bits.write(Self.end, width)
        return bits.finished
    }

    /// Goes on to the next code.
    ///
    /// - Returns: Whether it is the last one, which is not given to anything.
    private static func isLast(_ highest: inout Int, _ width: inout Int) -> Bool {
        highest += 1
        if highest == 1 << width { width += 1 }
        return highest == 1 << Self.widthMax - 1
    }

    /// - Parameter limit: The most bytes the result may have; a stream that grows beyond it throws instead.
    static func decompress(_ input: ArraySlice<UInt8>, limit: Int) throws(WireError) -> [UInt8] {
        var output: [UInt8] = []
        var prefix = [UInt16](repeating: 0, count: 1 << Self.widthMax)
        var suffix = [UInt8](repeating: 0, count: 1 << Self.widthMax)
        var expansion: [UInt8] = []
        var bits = BitReader(input)
        var width = 9
        // The code whose entry the next one completes; every code below it is defined, and so is this one while the
        // table is full.
        var highest = Self.end
        var isFull = false
        var last: Int?

        while true {
            guard let code = bits.read(width) else { throw .badCompression }
            if code == Self.end { return output }
            if code == Self.clear {
                width = 9
                highest = Self.end
                isFull = false
                last = nil
                continue
            }
            expansion.removeAll(keepingCapacity: true)
            var chain = code
            if code == highest, !isFull {
                // The code that this very step defines: the last expansion followed by its own first byte.
                guard let last else { throw .badCompression }
                expansion.append(0)
                chain = last
            } else if code > highest {
                throw .badCompression
            }
            while chain >= Self.clear {
                expansion.append(suffix[chain])
                chain = Int(prefix[chain])
            }
            let first = UInt8(chain)
            expansion.append(first)
            if code == highest, !isFull { expansion[0] = first }
            guard output.count + expansion.count <= limit else { throw .limitExceeded(.decompressedBytes) }
            output.append(contentsOf: expansion.reversed())

            if let last, !isFull {
                prefix[highest] = UInt16(last)
                suffix[highest] = first
            }
            last = code
            if isFull { continue }
            if highest + 1 < 1 << width {
                highest += 1
            } else if width < Self.widthMax {
                highest += 1
                width += 1
            } else {
                isFull = true
            }
        }
    }
}

/// Puts codes into bytes, least significant bit first.
private struct BitWriter {
    private var output: [UInt8] = []
    private var window: UInt32 = 0
    private var filled = 0

    mutating func write(_ code: Int, _ width: Int) {
        self.window |= UInt32(code) << UInt32(self.filled)
        self.filled += width
        while self.filled >= 8 {
            self.output.append(UInt8(truncatingIfNeeded: self.window))
            self.window >>= 8
            self.filled -= 8
        }
    }

    /// All of it, filled up to whole bytes.
    var finished: [UInt8] { self.filled > 0 ? self.output + [UInt8(truncatingIfNeeded: self.window)] : self.output }
}

/// Takes codes out of bytes, least significant bit first.
private struct BitReader {
    private let input: ArraySlice<UInt8>
    private var index: Int
    private var window: UInt32 = 0
    private var available = 0

    init(_ input: ArraySlice<UInt8>) {
        self.input = input
        self.index = input.startIndex
    }

    mutating func read(_ width: Int) -> Int? {
        while self.available < width {
            guard self.index < self.input.endIndex else { return nil }
            self.window |= UInt32(self.input[self.index]) << UInt32(self.available)
            self.index += 1
            self.available += 8
        }
        let code = Int(self.window & (1 << UInt32(width) - 1))
        self.window >>= UInt32(width)
        self.available -= width
        return code
    }
}
