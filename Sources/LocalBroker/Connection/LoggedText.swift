extension StringProtocol {
    /// The text, which came from outside, as it may stand in the log: what could end the line or move the reader's cursor is
    /// written out, and there are 128 characters at most. So nobody writes lines that look like the broker's own.
    package var logged: String {
        var result = ""
        for (index, scalar) in self.unicodeScalars.enumerated() {
            guard index < 128 else { return result + "…" }
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
                result += "\\u{" + String(scalar.value, radix: 16) + "}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
